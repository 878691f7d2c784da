"""Criterions that fairseq registers when the plug-in is loaded."""
