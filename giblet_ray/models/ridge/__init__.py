"""Ridge and banded ridge over delayed vectors of each part: the linear model that others are held
against. himalaya (https://github.com/gallantlab/himalaya) finds alphas and weights."""
