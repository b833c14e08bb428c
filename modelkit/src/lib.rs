//! How is the impact model made, and how good is it? Work for a desk: no node runs any of it, and nothing here prints.
//!
//! - [`line`]: a text or a message on a line of input. [`data`]: the same with the right answer.
//! - [`judge`]: what scores them, on any number of threads: [`in_order`].
//! - [`evaluate`]: figures, curves and plots of scores beside right answers.
//! - [`train`]: logistic regression. [`head`]: a head for an encoder, by it.
//! - [`replay`]: messages that are known through other weights, another threshold or another model.
//! - [`speed`]: how long a forward pass takes.

pub mod data;
pub mod evaluate;
#[cfg(feature = "model")]
pub mod head;
pub mod in_order;
pub mod judge;
pub mod line;
pub mod replay;
#[cfg(feature = "model")]
pub mod speed;
pub mod train;
