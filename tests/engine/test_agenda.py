"""The agenda against a dictionary: who is first, whatever was put before."""

from hypothesis import given
from hypothesis import strategies as st

from memvirt.engine.agenda import Agenda
from memvirt.engine.testing import agendas

FOREVER = 2**63 - 1
numbers = st.integers(0, 40) | st.sampled_from([4111, 4112, 4113, 8208])
times = st.integers(0, 60) | st.integers(0, 2**62) | st.just(FOREVER)


@given(st.lists(st.tuples(numbers, times), max_size=300))
def test_the_earliest_is_first_and_of_two_the_lower_number(puts):
    agenda, model = Agenda(), {}
    for who, at_ns in puts:
        agendas.put(agenda, who, at_ns)
        model[who] = at_ns
        if at_ns == FOREVER:
            del model[who]
        agenda.check()
        assert agenda.entries() == model
        assert agendas.at(agenda, who) == at_ns
        expected = min(((at, who) for who, at in model.items()), default=None)
        assert agendas.first(agenda) == (expected and (expected[1], expected[0]))


def test_there_is_room_for_everybody():
    agenda = Agenda()
    for who in range(8209):
        agendas.put(agenda, who, 10**9 - who)
    agenda.check()
    order = []
    while agenda.nr:
        who, _ = agendas.first(agenda)
        order.append(who)
        agendas.put(agenda, who, FOREVER)
    assert order == list(range(8208, -1, -1))
    agenda.check()
