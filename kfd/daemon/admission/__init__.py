"""Which files people may have sent, and how what was accepted stays readable.

``admission`` decides about a request: ``offered`` looks at its descriptors, ``routing`` finds route
and name. What kfd can't open itself is copied by ``intake`` (``copying``) into the ``spool``, as
far as its owner's ``quota`` goes.
"""
