// The transforms, one file each. `u` is the update (at first the gradient g), `theta` the parameters, `lr` the
// learning rate after the schedule, D the estimate of the Hessian's diagonal where one was asked for; the chain ends
// with theta -= lr * u. t = 1, 2, ... counts a transform's own updates, so that a fresh state is always treated as one.
#pragma once

#include <memory>

#include "optim/optimizer.h"

namespace sinew::optim {

using TransformPtr = std::unique_ptr<Transform>;

// ---- around the rule ----

// u *= min(1, max_norm / ||u||), the Euclidean norm over all parameters. Pascanu, Mikolov, Bengio 2013.
TransformPtr clip_by_norm(double max_norm);

// u += decay * theta (L2 regularisation; the gradient of decay/2 ||theta||^2). At Sutskever's look-ahead point where
// the chain has one, as mpiT does. The regularised loss has the curvature D + decay, so D becomes that.
TransformPtr weight_decay(double decay);

// theta *= 1 - lr * decay, independent of the gradient. Loshchilov and Hutter 2019 (PyTorch's scaling by lr).
TransformPtr decoupled_decay(double decay);

// ---- first order ----

// v = momentum * v + u; u = v. Polyak's heavy ball in PyTorch's form: lr multiplies v when it is used, so a change of
// lr acts on the whole velocity at once.
TransformPtr heavy_ball(double momentum);

// v = momentum * v + u; u = u + momentum * v. PyTorch's nesterov=True: no look-ahead, gradient at theta.
TransformPtr pytorch_nesterov(double momentum);

// v = momentum * v - lr * g(theta + momentum * v); theta += v. Sutskever et al. 2013; EASGD paper (arXiv:1412.6651v8)
// Algorithm 2, EAMSGD. before_gradient moves theta to theta + momentum * v. Because
//   theta + v_new = (theta + momentum * v_old) - lr * g,
// the chain's last link alone leads from the look-ahead point to the new theta: nothing has to be moved back, and
// there is no rounding of an undo. Must be the last transform that changes u.
TransformPtr look_ahead_momentum(double momentum);

// u = u + momentum m, where m follows the movement that the workers make together: after each step, and whatever mixed
// theta with others', m = momentum m + (1 - momentum) (theta_before - theta_now) / lr. Lin, Karimireddy, Stich and
// Jaggi, ICML 2021 (arXiv:2102.04761), QG-DSGDm without Nesterov's form. A worker alone has a damped heavy ball. When
// theta is replaced (moved by its own length or more) m begins at 0 again.
TransformPtr quasi_global_momentum(double momentum);

// m = beta1 m + (1 - beta1) u; v = beta2 v + (1 - beta2) u^2;
// u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). Kingma and Ba 2015 (arXiv:1412.6980), Algorithm 1; with
// decoupled_decay it is AdamW.
struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
TransformPtr adam(const AdamOptions& options);

// u = sign(beta1 m + (1 - beta1) u); m = beta2 m + (1 - beta2) u, with the old u. Chen et al. 2023 (arXiv:2302.06675),
// Program 1.
TransformPtr lion(double beta1, double beta2);

// Per parameter w: u = ratio * (u + decay * w), ratio = trust * ||w|| / (||u|| + decay * ||w||); 1 where one of the
// norms is 0. You, Gitman and Ginsburg 2017 (arXiv:1708.03888), eq. 6; heavy_ball after it.
TransformPtr lars(double trust, double decay);

// ---- second order: D comes from the trainer in the steps in which needs() asks for it ----

// m = beta1 m + (1 - beta1) u; on Hessian steps (th = 1, 2, ...) v = beta2 v + (1 - beta2) average(D)^2;
// u = m / (1 - beta1^t) / ((v / (1 - beta2^th))^(power / 2) + eps). Yao et al. 2021 (arXiv:2006.00719v2), Algorithm 1,
// eq. 8 to 12, with eps as in the authors' code; power 1 is their default.
//
// average: over the spatial axes of a filter (out, spatial ..., in), over blocks of a row of a matrix (out, in), a last
// incomplete block over its real length; biases and scales as they are. The mean of |D| is what the authors' code does
// and all its published results come from; the signed mean is the paper's eq. 10, which shrinks the denominator where
// signs cancel.
struct AdaHessianOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-4;
  double power = 1;           // k, in [0, 1]
  int64_t every = 1;          // Hessian steps are those with t % every == 0, t counted from 0,
  int64_t dense_steps = 0;    // and the first so many
  int samples = 1;            // draws of z per Hessian step
  bool signed_mean = false;   // else the mean of |D|
  int64_t block = 1;          // of a matrix's rows; 1: no averaging
  bool repeat_stale = false;  // v takes in the last D in every step (davda54/ada-hessian), else each D once
  bool bias_correction = true;
};
TransformPtr adahessian(const AdaHessianOptions& options);

// m = beta1 m + (1 - beta1) u; on Hessian steps h = beta2 h + (1 - beta2) D; u = clamp(m / max(rho h, eps), -1, 1),
// m divided by 1 - beta1^t where bias_correction says so. Liu et al. 2023 (arXiv:2305.14342), Algorithm 3. D is
// Hutchinson's (Sophia-H, as optax has it: bias-corrected; h may be negative, which gives a step of full length) or
// Gauss-Newton-Bartlett's (Sophia-G, as the authors' code has it: not corrected; their h times their batch size is
// ours).
struct SophiaOptions {
  Curvature curvature = Curvature::hutchinson;
  double beta1 = 0.965, beta2 = 0.99, rho = 0.01, eps = 1e-8;
  int64_t every = 10;
  int samples = 1;
  bool bias_correction = true;
};
TransformPtr sophia(const SophiaOptions& options);

}  // namespace sinew::optim
