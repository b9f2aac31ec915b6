"""``lab play``: the talk in eight acts on a lab that is up, in a terminal or from the console, recorded for replay.

Here belongs what tells the talk: each file in ``acts`` is one act. What an act does to a lab is in ``lab.lab``, and its
figure comes from the records of a judged run.
"""
