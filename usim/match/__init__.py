"""From a real image to a phantom whose frames look like it; one measurement per file.

`scan` reads the image, `area` finds what was insonified, `blocks` the places of even speckle, `curve` the compression,
`levels` noise floor and trend with depth, `tissue` the echogenicity; `measure` calls them, `phantom` writes the file.
"""
