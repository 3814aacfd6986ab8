"""A listening test of mixes: a static page that participants open, and the statistics of their answers.

Several mixes of a song are rated together, as markers on one axis for each attribute: the form of the APE toolbox
(De Man and Reiss, "APE: Audio Perceptual Evaluation toolbox for MATLAB", 136th AES Convention, 2014), with the
attributes of Martinez-Ramirez et al., "Automatic music mixing with deep learning and out-of-domain data" (ISMIR 2022).
"""
