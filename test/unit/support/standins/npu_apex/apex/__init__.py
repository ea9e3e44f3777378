"""A stand-in for Ascend's apex: what this project calls of `apex.amp`, at level O2, without apex's compiled parts."""
