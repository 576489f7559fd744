"""A model and its network in one LiteRT file, for a phone: a photograph in, a vector out.

`export.export_model` is the whole of it, and what a command calls:

| module | what it knows |
|---|---|
| `sources.py` | the model that is meant, its network, and what is published of batches |
| `groups.py` | which pictures may be of one fruit, and which of them are held out |
| `head.py` | a logistic regression on vectors, and how often it is right |
| `fuse.py` | the file: operators put around a network |
| `running.py` | the file, run with LiteRT |
| `checking.py` | the file, held against published vectors |
| `card.py` | what is known of the file, which is in it and beside it |

``docs/phone.md`` says what an app does.
"""
