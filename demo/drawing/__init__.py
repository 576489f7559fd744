"""Pictures of fruit, drawn with numpy and Pillow: no photograph is needed.

| room | what it knows |
|---|---|
| `light` | what a drawn thing is made of, how light falls on it, and its shadow; noise |
| `bodies` | shapes: bodies of revolution, upright or bent, balls, cut faces |
| `leaves` | leaves, stems and crowns |
| `grounds` | what fruit lies on |
| `halves` | cut fruit |
| `spots` | where a fruit lies, and what is drawn there |
| `fruits` | the labels, and how the fruit of each is drawn |
| `scene` | one picture: a ground in a light, and fruit on it |
"""
