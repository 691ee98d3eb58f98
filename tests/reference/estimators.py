"""The estimators written from their formulas: double loops over rows and agents, NumPy float64, no batch axis."""

import math

import numpy as np

LIMIT = 80.0
"""Log-ratios beyond +-80 count as +-80; no trace is above lambda e^80."""


def ratio(log_ratio):
    return math.exp(min(max(float(log_ratio), -LIMIT), LIMIT))


def own_weight_of(log_ratio, own_weight, own_cap):
    return min(1.0 if own_weight == "truncated" else float(own_cap), ratio(log_ratio))


def own_weights(log_ratios, *, own_weight="truncated", own_cap=math.inf):
    """w[t][i] of the agent's own action in the critic's target."""
    return np.array([[own_weight_of(x, own_weight, own_cap) for x in row] for row in log_ratios])


def traces(log_ratios, *, trace, lambda_, eta=1.05, own_cap=math.inf):
    """c[t][i], from ratios of the agent itself and of the others; sums of logs are exact; eta may be an array."""
    rows, agents = np.shape(log_ratios)
    eta = np.broadcast_to(eta, (rows, agents))
    c = np.zeros((rows, agents))
    for t in range(rows):
        logs = [min(max(float(x), -LIMIT), LIMIT) for x in log_ratios[t]]
        for i in range(agents):
            own = logs[i]
            others = math.fsum(logs[:i] + logs[i + 1 :])
            team = math.fsum(logs)
            log_eta = math.log(eta[t, i])
            log_c = {
                "none": 0.0,
                "st": min(0.0, team),
                "it": min(0.0, own),
                "dt": min(0.0, own + log_eta if others > log_eta else team),
                "others": min(own, math.log(own_cap)) + min(others, log_eta),
            }[trace]
            c[t, i] = lambda_ * math.exp(min(log_c, LIMIT))
    return c


def gpae(
    rewards, values, next_values, terminated, truncated, log_ratios,
    *, gamma, lambda_, trace="dt", eta=1.05, own_weight="truncated", own_cap=math.inf,
):  # fmt: skip
    """(advantages, critic targets), each [T, N]; rewards [T] or [T, N]."""
    rows, agents = np.shape(values)
    rewards = np.asarray(rewards, np.float64)
    rewards = rewards if rewards.ndim == 2 else np.repeat(rewards[:, None], agents, axis=1)
    values, next_values = np.asarray(values, np.float64), np.asarray(next_values, np.float64)
    c = traces(log_ratios, trace=trace, lambda_=lambda_, eta=eta, own_cap=own_cap)
    advantages, targets = np.zeros((rows, agents)), np.zeros((rows, agents))
    for i in range(agents):
        for t in reversed(range(rows)):
            advantages[t, i] = rewards[t, i] - values[t, i]
            if not terminated[t]:
                advantages[t, i] += gamma * next_values[t, i]
            if t + 1 < rows and not terminated[t] and not truncated[t]:
                advantages[t, i] += gamma * c[t + 1, i] * advantages[t + 1, i]
            weight = own_weight_of(log_ratios[t][i], own_weight, own_cap)
            targets[t, i] = values[t, i] + weight * advantages[t, i]
    return advantages, targets


def gae(rewards, values, next_values, terminated, truncated, *, gamma, lambda_):
    """Advantages [T, N] as the sum of discounted errors up to the end of the episode, Eq. 16 of Schulman et al."""
    rows, agents = np.shape(values)
    rewards = np.asarray(rewards, np.float64)
    rewards = rewards if rewards.ndim == 2 else np.repeat(rewards[:, None], agents, axis=1)
    values, next_values = np.asarray(values, np.float64), np.asarray(next_values, np.float64)
    advantages = np.zeros((rows, agents))
    for i in range(agents):
        for t in range(rows):
            for k in range(t, rows):
                bootstrap = 0.0 if terminated[k] else gamma * next_values[k, i]
                error = rewards[k, i] + bootstrap - values[k, i]
                advantages[t, i] += (gamma * lambda_) ** (k - t) * error
                if terminated[k] or truncated[k]:
                    break
    return advantages


def vtrace(rewards, values, next_values, terminated, truncated, log_ratios, *, gamma, lambda_):
    """V-trace(lambda) targets [T] of one agent with both caps 1: Espeholt et al. 2018, Eq. 1 and remark 2."""
    rows = len(values)
    rho = [min(1.0, math.exp(x)) for x in log_ratios]
    targets = np.asarray(values, np.float64).copy()
    for s in range(rows):
        product = 1.0
        for t in range(s, rows):
            bootstrap = 0.0 if terminated[t] else gamma * float(next_values[t])
            error = rho[t] * (float(rewards[t]) + bootstrap - float(values[t]))
            targets[s] += gamma ** (t - s) * product * error
            if terminated[t] or truncated[t]:
                break
            product *= lambda_ * rho[t]
    return targets


def dae(
    rewards, values, next_values, terminated, truncated, expected_rewards, log_ratios,
    *, gamma, lambda_, beta, trace="it", eta=1.05, own_weight="truncated", own_cap=math.inf,
):  # fmt: skip
    """(advantages, critic targets), each [T, N]: the sum over l of delta - beta^(l + 1) rbar, traced and discounted."""
    rows, agents = np.shape(values)
    rewards = np.asarray(rewards, np.float64)
    rewards = rewards if rewards.ndim == 2 else np.repeat(rewards[:, None], agents, axis=1)
    c = traces(log_ratios, trace=trace, lambda_=lambda_, eta=eta, own_cap=own_cap)
    advantages, targets = np.zeros((rows, agents)), np.zeros((rows, agents))
    for i in range(agents):
        for t in range(rows):
            weight = 1.0
            for lag, u in enumerate(range(t, rows)):
                if lag:
                    weight *= gamma * c[u, i]
                delta = rewards[u, i] - float(values[u][i])
                if not terminated[u]:
                    delta += gamma * float(next_values[u][i])
                advantages[t, i] += weight * (delta - beta ** (lag + 1) * float(expected_rewards[u][i]))
                if terminated[u] or truncated[u]:
                    break
            weight = own_weight_of(log_ratios[t][i], own_weight, own_cap)
            targets[t, i] = float(values[t][i]) + weight * advantages[t, i]
    return advantages, targets


def tree_backup(rewards, values, next_values, terminated, truncated, log_probs, *, gamma, lambda_, steps):
    """Targets [T] of the joint action's value, over at most `steps` steps."""
    rows = len(values)
    targets = np.zeros(rows)
    for t in range(rows):
        weight, targets[t] = 1.0, float(values[t])
        for lag in range(steps):
            u = t + lag
            if u >= rows:
                break
            if lag:
                weight *= gamma * lambda_ * math.exp(log_probs[u])
            delta = float(rewards[u]) - float(values[u])
            if not terminated[u]:
                delta += gamma * float(next_values[u])
            targets[t] += weight * delta
            if terminated[u] or truncated[u]:
                break
    return targets


def counterfactual_advantages(action_values, probs, actions):
    """[T, N]: the taken action's value minus the mean over the policy's actions."""
    rows, agents, count = np.shape(action_values)
    found = np.zeros((rows, agents))
    for t in range(rows):
        for i in range(agents):
            found[t, i] = float(action_values[t][i][actions[t][i]])
            for a in range(count):
                found[t, i] -= float(probs[t][i][a]) * float(action_values[t][i][a])
    return found


def advantage_gap(advantages, alive, agent):
    """(gap, exists), each [T]: the mean over the agent's living teammates minus its own; 0 without any."""
    rows, agents = np.shape(advantages)
    gaps, exists = np.zeros(rows), np.zeros(rows, bool)
    for t in range(rows):
        mates = [float(advantages[t][j]) for j in range(agents) if j != agent and alive[t][j]]
        if mates:
            gaps[t], exists[t] = math.fsum(mates) / len(mates) - float(advantages[t][agent]), True
    return gaps, exists
