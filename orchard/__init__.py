"""The command ``orchard``: runs batches here, and looks after what came of them.

`app` holds the commands together and says how they end; `commands` has a module for each noun;
`options` are those that several commands take, and where they look; `job_options` are the job's
own; `console` is all that prints. `published` reads the tables of published runs, and `querying`
asks them; `collection` finds batches and runs, `pruning` what of them nobody
needs; `searching` the pictures that are like one, and `search_page` shows them; `planning`
measures a sample, `health` this machine; `phone` exports a model. What works on the results
themselves, and the job needs too, is in `spark_job`.
"""
