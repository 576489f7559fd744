"""Speed against what the cores can do at best, and against what one would run instead."""
