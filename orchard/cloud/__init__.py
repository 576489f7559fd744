"""The deployed stack, as a person uses it: with their own credentials, and no more than AWS' APIs.

`session` signs in, and says in sentences what AWS refuses; `stack` finds the stack by its name.
`uploading` takes pictures to it and `fetching` brings results back, `moving` many files at once,
and `etags` tells which are the same; `starting` says what an execution is started with;
`executions` lists, starts and stops them, `journal` reads how one goes and `following` tells it;
`clusters` are EMR's, `costs` what runs cost, `logs` what clusters left.
"""
