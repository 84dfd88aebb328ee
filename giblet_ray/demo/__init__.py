"""A small film and simulated scans of people watching it, whose noise ceiling is known.

    script -> pictures, sound, words -> film (.mp4, .srt) -> measure -> scans (.nii.gz)

The files are like any user's; nothing downstream knows that they were made here.
"""

from giblet_ray.demo.make import DemoFiles, make_demo
from giblet_ray.demo.settings import DemoSettings

__all__ = ["DemoFiles", "DemoSettings", "make_demo"]
