"""Predicted BOLD for any film with shards, as a Ray Data job.

predict    the whole of it                     task      what is predicted from what
pipeline   the work, spread over a cluster     folder    what a folder of predictions holds
                                               writer    one stimulus's files

formatted  predictions of all subjects in one file, in a form of others: file_format, formats/,
           fitted_rows, and numpy_pickle, in which some of them are written
"""
