"""What `resnet-spec show` shows: a module per picture, with what is shown apart from the drawing.

In each module plain functions return the data of a picture (rows, titles, colours, a matrix, boxes)
and its text form for terminals, and `figure` draws that data with matplotlib, imported only there.
"""
