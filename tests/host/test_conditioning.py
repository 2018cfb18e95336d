"""Conditionings as batches: repeated, chosen, joined; what lies behind them is made when asked."""

import torch
from personalize.host.conditioning import Conditioning, TowerOutput


def prompts(count, pooled=True):
    rows = torch.arange(count * 6.0).reshape(count, 2, 3)
    return Conditioning(rows, rows.mean(dim=1) if pooled else None)


def test_one_prompt_serves_every_row():
    one = prompts(1)
    for many in (one.expand(3), one.of_prompts(torch.tensor([0, 0, 0]))):
        assert len(many) == 3 and torch.equal(many.rows[2], one.rows[0])
        assert torch.equal(many.pooled[2], one.pooled[0])


def test_each_row_gets_its_prompt():
    several, numbers = prompts(3), torch.tensor([2, 0])
    for base in (several, prompts(3, pooled=False)):
        chosen = base.of_prompts(numbers)
        assert torch.equal(chosen.rows, several.rows[numbers])
        assert (chosen.pooled is None) == (base.pooled is None)
    assert torch.equal(several.of_prompts(numbers).pooled, several.pooled[numbers])


def test_joined_batches_keep_their_order():
    joined = Conditioning.cat([prompts(1), prompts(2)])
    assert len(joined) == 3 and torch.equal(joined.rows[1:], prompts(2).rows)
    assert joined.pooled.shape == (3, 3)
    assert Conditioning.cat([prompts(1, pooled=False)]).pooled is None


def test_the_layers_behind_the_context_run_when_they_are_asked_for():
    walks = []

    def walk_on():
        walks.append(1)
        return torch.arange(8.0).reshape(2, 2, 2)

    output = TowerOutput(torch.zeros(2, 2, 2), torch.tensor([1, 0]), walk_on, lambda x: 10 * x)
    assert not walks
    assert output.pooled.tolist() == [[20, 30], [40, 50]]  # at each prompt's end
    assert output.last.shape == (2, 2, 2) and len(walks) == 1
