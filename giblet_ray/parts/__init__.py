"""The parts of a data set: what a row of each holds, how it is made, how a model reads it.

part       what every part declares                    value      type of a row
reading    from rows to a model's input, by the kind of encoder that reads them
frames, codes, mel, sound, motion_energy, text, array  one part each
built_in   all of them, and those of a user's own
"""
