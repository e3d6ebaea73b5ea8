"""x"""

MISCONCEPTIONS = {}
