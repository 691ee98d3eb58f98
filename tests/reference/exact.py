"""Values and operators of small games from their definitions: plain loops, repeated until nothing changes."""

import itertools
import math


def actions_of(agents, actions):
    return list(itertools.product(range(actions), repeat=agents))


def probability(policy, state, joint, leave_out=None):
    return math.prod(policy[i][state][a] for i, a in enumerate(joint) if i != leave_out)


def q_values(game, policy, sweeps=600):
    """Q as a dict over (s, joint action tuple), by repeated backups."""
    joint = actions_of(game.agents, game.actions)
    v = [0.0] * game.states
    for _ in range(sweeps):
        q = {}
        for s in range(game.states):
            for j, a in enumerate(joint):
                q[s, a] = 0.0
                if not game.terminal[s]:
                    future = sum(game.transitions[s, j, n] * v[n] for n in range(game.states) if not game.terminal[n])
                    q[s, a] = game.rewards[s, j] + game.discount * future
        v = [sum(probability(policy, s, a) * q[s, a] for a in joint) for s in range(game.states)]
    return q


def own_average(game, policy, q, agent, state, others):
    """EQ^i(s, a^-i); `others` is a joint action whose slot of the agent does not count."""
    return sum(
        policy[agent][state][a] * q[state, (*others[:agent], a, *others[agent + 1 :])] for a in range(game.actions)
    )


def advantages(game, policy, behaviour, agent, table, form, steps):
    """Mean of the estimator over `steps` rows, a dict over (s, a); `table` is a function of (s, a)."""
    joint = actions_of(game.agents, game.actions)

    def ratios(s, a):
        rho = [policy[i][s][x] / behaviour[i][s][x] for i, x in enumerate(a)]
        return rho[agent], math.prod(rho[:agent] + rho[agent + 1 :])

    def trace(s, a):
        own, others = ratios(s, a)
        return (
            form.lambda_
            * {
                "none": 1.0,
                "st": min(1.0, own * others),
                "it": min(1.0, own),
                "dt": min(1.0, own * min(form.eta, others)),
                "per-decision": own * others,
                "others": min(form.own_cap, own) * min(form.eta, others),
            }[form.trace]
        )

    def follows(s):
        total = 0.0
        for a in joint:
            if form.bootstrap == "sampled":
                total += probability(behaviour, s, a) * table(s, a)
            elif form.bootstrap == "weighted":
                total += probability(behaviour, s, a) * ratios(s, a)[1] * table(s, a)
            else:
                total += probability(policy, s, a) * table(s, a)
        return total

    bootstrap = [0.0 if game.terminal[s] else follows(s) for s in range(game.states)]
    result = dict.fromkeys(itertools.product(range(game.states), joint), 0.0)
    for _ in range(steps):
        later = [
            0.0 if game.terminal[s] else sum(probability(behaviour, s, a) * trace(s, a) * result[s, a] for a in joint)
            for s in range(game.states)
        ]
        result = {
            (s, a): 0.0
            if game.terminal[s]
            else game.rewards[s, j]
            - table(s, a)
            + game.discount * sum(game.transitions[s, j, n] * (bootstrap[n] + later[n]) for n in range(game.states))
            for s in range(game.states)
            for j, a in enumerate(joint)
        }
    return result
