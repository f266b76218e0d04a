"""Which pickle opcodes a candidate's messages may hold."""

import pickle

PLAIN = {
    0: (
        pickle.MARK, pickle.STOP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_LIST,
        pickle.APPEND, pickle.APPENDS, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1,
        pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS,
        pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.MEMOIZE, pickle.POP,
        pickle.POP_MARK, pickle.STACK_GLOBAL, pickle.REDUCE,
    ),
    1: (pickle.BININT1, pickle.BINGET, pickle.PROTO),
    2: (pickle.BININT2,),
    4: (pickle.BININT, pickle.LONG_BINGET),
    8: (pickle.BINFLOAT, pickle.FRAME),
}  # fmt: skip
"""Opcodes by the length of what follows them. GLOBAL, INST, OBJ and NEWOBJ are not among them,
which make objects by other ways than `find_class` and a call, nor BUILD, which sets attributes."""
COUNTED = {
    1: (pickle.LONG1, pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES),
    4: (pickle.LONG4, pickle.BINUNICODE, pickle.BINBYTES),
    8: (pickle.BINUNICODE8, pickle.BINBYTES8, pickle.BYTEARRAY8),
}
"""Opcodes by the length of the number of bytes that follow them."""
STEPS = [0] * 256
"""By opcode: the distance to the next one; negative if a number of that length gives it, 0 if the
opcode is not allowed."""
for length, names in PLAIN.items():
    for name in names:
        STEPS[name[0]] = 1 + length
for length, names in COUNTED.items():
    for name in names:
        STEPS[name[0]] = -length


def check(payload: bytes | bytearray) -> None:
    """Walk over a pickle without reading it.

    Raises:
        pickle.UnpicklingError: it holds another opcode, or has no end.
    """
    position, end, steps = 0, len(payload), STEPS
    while position < end:
        step = steps[payload[position]]
        if step > 0:
            position += step
        elif step < 0:
            start = position + 1 - step
            position = start + int.from_bytes(payload[position + 1 : start], "little")
        else:
            raise pickle.UnpicklingError(f"a message with opcode {payload[position]:#x}")
    if position != end or payload[-1:] != pickle.STOP:
        raise pickle.UnpicklingError("a message without an end")
