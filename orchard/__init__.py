"""The command ``orchard``: looks after what the job wrote, in a local folder or in S3.

`app` holds the commands together and says how they end; `commands` has a module for each noun;
`options` are those that several commands take; `console` is all that prints. `pruning` finds what
nobody needs, `searching` the pictures that are like one, and `search_page` shows them; `phone`
exports a model. What works on the results themselves, and the job needs too, is in `spark_job`.
"""
