"""Predicted BOLD for any film with shards, as a Ray Data job.

predict    the whole of it                     task      what is predicted from what
pipeline   the work, spread over a cluster     folder    what a folder of predictions holds
                                               writer    one stimulus's files
"""
