"""What a person should look at in a batch: copies, doubtful labels, outliers, where to begin.

`survey` is the whole of it; it runs two passes on an engine, `placing` and `looking`. What these do
is in pure functions: arrays of a cell's images in (`members`), findings out.

| room | what it knows |
|---|---|
| `space` | in which space pictures are compared |
| `members` | how images are dealt out to cells, and the columns of a cell |
| `neighbours` | the nearest ones |
| `duplicates` | which neighbours are copies, and groups of such |
| `votes` | what neighbours say about a label |
| `outliers` | how unlike the others a picture is |
| `selection` | an order in which few pictures cover many |
| `labels` | sums by label: spread and distance |
| `streams` | several tables in one file, each to be read by itself |
| `schemas`, `card` | the tables, and what the receipt says of them |
"""
