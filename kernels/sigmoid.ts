/** WGSL of the logistic function. It doesn't overflow, and has no select, unlike the form that takes |x|. */
export const SIGMOID = `
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 87.0))); }`;
