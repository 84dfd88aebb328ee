"""The test: what a run that is finished predicts of TRs that nothing was chosen on."""
