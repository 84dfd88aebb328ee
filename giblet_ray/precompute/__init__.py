"""Films, subtitles and scans to the shards of a data set, as a Ray Data job.

run        the whole of it                       plan, units     what is to be made
pipeline   the work, spread over a cluster       makers, sound   one unit of it
resume     what is there already                 provenance      how it was made: the manifest
"""
