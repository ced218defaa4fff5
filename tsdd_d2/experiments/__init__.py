"""The paper's workshop: which runs a table or figure needs, their training, and what is made of their predictions.

Nothing else of this package imports it.
"""
