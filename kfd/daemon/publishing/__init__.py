"""From a complete partial to its final name: durable, once, and never over what is newer.

``publisher`` leads a batch of ``partials``: ``finishing`` (``mark``) makes them ready, ``naming``
chooses names, ``renaming`` gives them, ``settlement`` ends what a kill interrupted. ``destination``
is the route's directory.
"""
