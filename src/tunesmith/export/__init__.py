"""What leaves the building: the final folder, the merged model, their card.

Nothing is called done before it was loaded again, as anybody would load it, and compared with what
was trained.
"""
