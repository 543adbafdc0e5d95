"Anchors of headings"
import re

def slug(title):
    "As nbdev writes it into links"
    return re.sub(r'[^\w. -]', '', title.lower()).strip().replace(' ', '-')
