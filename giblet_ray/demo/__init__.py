"""A small film and simulated scans of people watching it, whose noise ceiling is known.

    script -> pictures, sound, words -> film (.mp4, .srt) -> measure -> scans (.nii.gz)

The files are like any user's; nothing downstream knows that they were made here. On request BOLD
follows a planted signal, which only an audio model of certain settings can read.
"""

from giblet_ray.demo.make import DemoFiles, make_demo
from giblet_ray.demo.planted import Planted

__all__ = ["DemoFiles", "Planted", "make_demo"]
