"""Whether each topic can be used, kept up to date: ``topics`` looks, for whom (``needs``), keeps
what is in the way (``state``), and tells those who use it (``reports``).
"""
