"""Neurons written down a second time, from the papers, as plain loops over time under autograd. Nothing is shared."""

import math

import torch


class Spike(torch.autograd.Function):
    """Heaviside with a surrogate derivative."""

    @staticmethod
    def forward(ctx, u, kind):
        ctx.save_for_backward(u)
        ctx.kind = kind
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        slope = {
            "sigmoid": lambda: 4 * torch.exp(-4 * u.abs()) / (1 + torch.exp(-4 * u.abs())) ** 2,
            "atan": lambda: 1 / (1 + (math.pi * u) ** 2),
            "rectangle": lambda: (u.abs() < 0.5).to(u),
        }[ctx.kind]()
        return grad * slope, None


def over_time(x, start, step):
    """``step(t, x_t, *state) -> (spikes, *state)`` over x: [T, ...], from the resting values ``start``."""
    state, spikes = [torch.full_like(x[0], value) for value in start], []
    for t in range(len(x)):
        s, *state = step(t, x[t], *state)
        spikes.append(s)
    return torch.stack(spikes)


def klif(x, n):
    def step(t, x, v):
        f = torch.relu(n.k * (v + (x - v) / 2))
        s = Spike.apply(f - 1, "sigmoid")
        return s, torch.where(s.detach() > 0, 0.0, f)

    return over_time(x, [0.0], step)


def clif(x, n):
    def step(t, x, u, m):
        u = u / 2 + x
        s = Spike.apply(u - 1, "rectangle")
        m = m * torch.sigmoid(u / 2) + s
        return s, u - s * (1 + torch.sigmoid(m)), m

    return over_time(x, [0.0, 0.0], step)


def cubalif(x, n):
    def step(t, x, current, v):
        current = 0.5 * current + x
        v = 0.75 * v + current
        s = Spike.apply(v - 0.5, "rectangle")
        return s, current, torch.where(s.detach() > 0, 0.0, v)

    return over_time(x, [0.0, 0.0], step)


def eif(x, n):
    def step(t, x, v):
        dv = -(v - 0.0) + 1.0 * torch.exp((v - 0.8) / 1.0) + x
        v = v + dv / 2
        s = Spike.apply(v - 1, "sigmoid")
        return s, torch.where(s.detach() > 0, -0.1, v)

    return over_time(x, [-0.1], step)


def qif(x, n):
    def step(t, x, v):
        v = v + (v * (v - 0.8) + x) / 2
        s = Spike.apply(v - 1, "sigmoid")
        return s, torch.where(s.detach() > 0, -0.1, v)

    return over_time(x, [-0.1], step)


def izhikevich(x, n):
    """With a = 0.5, b = 0.25."""

    def step(t, x, v, w):
        v = v + ((v + 0.1) * (v - 0.8) - w + x) / 2
        s = Spike.apply(v - 1, "sigmoid")
        w = w + (0.5 * (v + 0.1) - w) / 2 + 0.25 * s
        return s, torch.where(s.detach() > 0, 0.0, v), w

    return over_time(x, [0.0, 0.0], step)


class Count(torch.autograd.Function):
    """Whole numbers from 0 to 4, straight through where they are not clipped."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return torch.round(u).clip(0, 4)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * ((u >= 0) & (u <= 4))


def ilif(x, n):
    def step(t, x, v):
        v = 0.25 * v + x
        s = Count.apply(v)
        return s, v - s.detach()

    return over_time(x, [0.0], step)


def nilif(x, n):
    return ilif(x, n) / 4


def glif(x, n):
    """Yao et al.'s u = (1 - a(1 - d)) u (1 - g s) - (1 - a) l + (1 - b(1 - c_t)) x - (1 - g) r s; layer or channels."""

    def gate(p):
        p = p.sigmoid()
        return p.view(-1, *[1] * (x.ndim - 3)) if p.ndim else p

    a, b, g = gate(n.gate_decay), gate(n.gate_input), gate(n.gate_reset)
    d, leak, r, theta = gate(n.decay), gate(n.leak), gate(n.subtract), gate(n.level)

    def step(t, x, u, s):
        c = gate(n.conductance[t])
        u = (1 - a * (1 - d)) * u * (1 - g * s) - (1 - a) * leak + (1 - b * (1 - c)) * x - (1 - g) * r * s
        s = Spike.apply(u - theta, "sigmoid")
        return s, u, s

    return over_time(x, [0.0, 0.0], step)


def hdlif(x, n):
    """Gate of a position: all of its T x C inputs times a [4, T C] matrix, and a softmax over the four experts."""
    steps, batch, channels = x.shape[:3]
    flat = x.reshape(steps, batch, channels, -1)
    scores = torch.einsum("etc,tbcl->ebl", n.gate.weight.view(4, steps, channels), flat)
    scores = scores + n.gate.bias.view(4, 1, 1)
    if not n.training:
        lowest = scores.argsort(0)[:2]
        scores = scores.scatter(0, lowest, -1e30)
    gates = [gate[:, None] for gate in scores.exp() / scores.exp().sum(0)]
    rate = 1 / (1 + torch.exp(-n.w))

    def step(t, x, *membranes):
        v_if, v_lif, v_plif, v_eif = membranes
        charged = [
            v_if + x,
            v_lif + (x - v_lif) / 2,
            v_plif + (x - v_plif) * rate,
            v_eif + (x - v_eif + torch.exp(v_eif - 0.8)) / 2,
        ]
        fired = [v >= 0.5 for v in charged]
        blend = sum(g * torch.where(f, 0.5, v) for g, f, v in zip(gates, fired, charged, strict=True))
        kept = [torch.where(f, r, v) for f, r, v in zip(fired, (0.0, 0.0, 0.0, -0.1), charged, strict=True)]
        return Spike.apply(blend - 0.2, "sigmoid"), *kept

    return over_time(flat, [0.0, 0.0, 0.0, -0.1], step).view(x.shape)


def both(v):
    """A spike of either sign, whose membrane goes to 0."""
    s = Spike.apply(v - 1, "sigmoid") - Spike.apply(-v - 1, "sigmoid")
    return s, torch.where(s.detach() != 0, 0.0, v)


def ternary_if(x, n):
    return over_time(x, [0.0], lambda t, x, v: both(v + x))


def ternary_lif(x, n):
    return over_time(x, [0.0], lambda t, x, v: both(v + (x - v) / 2))


def psn(x, n):
    return Spike.apply(torch.einsum("ts,s...->t...", n.weight, x) + n.bias.view(-1, *[1] * (x.ndim - 1)), "atan")


def masked_psn(x, n):
    def step(t, _):
        h = n.bias[t] + sum(n.weight[t, j] * x[j] for j in range(max(0, t - 1), t + 1))  # k = 2
        return (Spike.apply(h, "atan"),)

    return over_time(x, [], step)


def sliding_psn(x, n):
    def step(t, _):
        h = n.weight[1] * x[t] + (n.weight[0] * x[t - 1] if t else 0)  # k = 2
        return (Spike.apply(h + n.bias, "atan"),)

    return over_time(x, [], step)


def rouser(x, n):
    theta = n.theta.view(-1, *[1] * (x.ndim - 3)) if n.theta.ndim else n.theta

    def step(t, x, v):
        v = (v + x) / 2
        s = Spike.apply(v - theta, "sigmoid")
        return s, torch.where(s.detach() > 0, 0.0, v)

    return over_time(x, [0.0], step)


def ltmd(x, n):
    def step(t, x, u, o):
        u = 0.25 * u * (1 - o) + x
        o = Spike.apply(u - torch.tanh(n.k), "rectangle")
        return o, u, o

    return over_time(x, [0.0, 0.0], step)


def trsg(x, n):
    """With the paper's factor divided out of the spikes again, see the neuron's docstring."""
    theta = torch.log(1 + torch.exp(n.k))

    def step(t, x, v):
        v = v + (x - v) / (1 + torch.exp(-n.w))
        u = torch.clamp(v / theta - 0.5, 0, 1)
        fixed = torch.floor(u + 0.5).detach()
        s = fixed + (u - u.detach())
        return s, v - theta * s

    return over_time(x, [0.0], step)


def ds_atgo(x, n):
    def step(t, x, v):
        v = 0.2 * v + x
        deviation, mean = (each.detach() for each in torch.std_mean(v, correction=1 if v.numel() > 1 else 0))
        theta = mean + deviation
        width = 1 - torch.tanh(1 - deviation) if deviation <= 1 else 1 + torch.tanh(deviation - 1)
        s = Spike.apply((v - theta) / width, "rectangle")
        return s, v * (1 - s)

    return over_time(x, [0.0], step)
