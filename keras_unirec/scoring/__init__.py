"""Predicting a table of rows, and measuring how good that is."""

from keras_unirec.scoring.evaluate import evaluate as evaluate
from keras_unirec.scoring.predict import predict as predict
from keras_unirec.scoring.report import EvaluationReport as EvaluationReport
