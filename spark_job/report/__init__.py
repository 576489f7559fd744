"""The page that shows what is in a batch: ``report.html``, one file in the run's folder.

| room | what it knows |
|---|---|
| `results` | what it is made of: the stored results of a run |
| `view` | what of them stands on the page, section by section |
| `pictures`, `thumbnails` | the pictures, within limits of time and size |
| `verdict` | whether the batch is fine, in a sentence |
| `fitting` | how much of all this goes into 5 MB |
| `page`, and the folder of this name | words, HTML, style and script |
| `making` | the child process that makes it |
"""
