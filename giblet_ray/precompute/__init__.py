"""Films, subtitles, arrays and scans to the shards of a data set, as a Ray Data job.

precompute   the whole of it                     chosen, plan, units   what is to be made
pipeline     the work, spread over a cluster     makers, prepared      one unit of it
resume       what is there already               provenance            how it was made: the manifest
"""
