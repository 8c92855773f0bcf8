"""Prompts of public datasets, from the columns of your own files: the templates of MeZO.

`TEMPLATES` has SST-2, SST-5, TREC, SNLI, MNLI, RTE, CB, BoolQ, WiC, WSC, MultiRC, COPA, ReCoRD, SQuAD and
DROP. Columns are those of the files on the Hugging Face Hub; `ALIASES` lists further names. A template
of your own is one call of `words`, `candidates` or `answers`.

Sources: Malladi et al., "Fine-tuning language models with just forward passes",
https://arxiv.org/abs/2305.17333, tables 13 and 14; for encoders Gao et al., "Making pre-trained language
models better few-shot learners", https://arxiv.org/abs/2012.15723. For TREC, SNLI and MNLI these have
prompts of encoders only; the prompts of decoders are ours.
"""

from zojax.lm.templates._datasets import TEMPLATES
from zojax.lm.templates._template import ALIASES, Template, answers, candidates, words

__all__ = ["ALIASES", "TEMPLATES", "Template", "answers", "candidates", "words"]
