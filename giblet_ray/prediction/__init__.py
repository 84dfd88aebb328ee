"""Predicted BOLD for any film with shards, as a Ray Data job.

run        the whole of it                     plan      what is predicted from what
pipeline   the work, spread over a cluster     folder    what a folder of predictions holds
                                               writer    one stimulus's files
"""
