"""What becomes of delivered files: ``disposing`` keeps a stage (``thereafter``) for each route that
wants one; ``disposal`` does it to one file, ``place`` where it goes.
"""
