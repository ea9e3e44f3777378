"""Stand-in for Ascend's apex without its compiled parts. It has only the functions of `apex.amp` that are used."""
