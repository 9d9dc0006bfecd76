"""The command line: one file per noun, loaded when its noun is used. They share options, show and running."""
