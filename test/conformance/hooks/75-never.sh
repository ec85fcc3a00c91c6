#!/bin/sh
# A dot in the name: it never runs.
touch "$TARGET/never-dotted"
