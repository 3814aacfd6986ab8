"""Search for hyperparameters: many trainings with other settings, their best, and what it differs in.

A study is a set of trials in an Optuna storage, which several processes and machines share. A trial is a training as
``fxnorm train`` does it. Whoever works on a study takes up what a killed process left, before it begins anything new.
"""
