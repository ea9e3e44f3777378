"""Stand-in for Ascend's apex: the functions of `apex.amp` that are used, at level O2, without compiled parts."""
