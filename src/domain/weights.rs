//! What each part of the impact counts for.

/// What each part counts for; only their proportions matter.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    pub semantic: f64,
    pub permission: f64,
    pub volume: f64,
    pub context: f64,
    pub drift: f64,
    pub priority: f64,
    #[serde(rename = "type")]
    pub message_type: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            semantic: 0.30,
            permission: 0.20,
            volume: 0.10,
            context: 0.10,
            drift: 0.15,
            priority: 0.10,
            message_type: 0.05,
        }
    }
}

/// Weights that make no mean.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WeightsError {
    #[error("the weight of {part} is {found}, expected 0 to {}", Weights::MAX)]
    OutOfRange { part: &'static str, found: f64 },
    #[error("all weights are 0, expected at least one above")]
    AllZero,
}

impl Weights {
    /// The largest weight one part can have.
    pub const MAX: f64 = 1_000.0;

    /// Whether every score will be a number from 0 to 1.
    pub fn check(&self) -> Result<(), WeightsError> {
        let Weights { semantic, permission, volume, context, drift, priority, message_type } = *self;
        let named = [
            ("semantic", semantic),
            ("permission", permission),
            ("volume", volume),
            ("context", context),
            ("drift", drift),
            ("priority", priority),
            ("type", message_type),
        ];
        for (part, found) in named {
            if !(0.0..=Weights::MAX).contains(&found) {
                return Err(WeightsError::OutOfRange { part, found });
            }
        }
        // Not `== 0`: weights near the smallest of floats would lose the mean to rounding.
        if named.iter().map(|(_, weight)| weight).sum::<f64>() < 1e-6 {
            Err(WeightsError::AllZero)
        } else {
            Ok(())
        }
    }
}
