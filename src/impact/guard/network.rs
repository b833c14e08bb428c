//! How does a guard compute? Candle's own models, and the heads that candle lacks.
//!
//! DistilBERT runs on the bus's own encoder: candle's takes an approximation of GELU that the
//! reference does not. A batch is of sequences of one length, so nothing is padded and no mask hides
//! anything.

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module as _, VarBuilder, layer_norm_no_bias, linear, linear_no_bias};
use candle_transformers::models::{
    bert::BertModel, debertav2::DebertaV2SeqClassificationModel, modernbert::ModernBert,
    xlm_roberta::XLMRobertaForSequenceClassification,
};

use super::config::{Architecture, Config, Pooling};
use crate::impact::distilbert::{Choice, Encoder, Engine, LoadError, Precision, RunError, Scratch};

/// A loaded classifier. Tensors are shared by all threads, whatever their number.
pub enum Network {
    DistilBert {
        encoder: Box<Encoder>,
        dense: Linear,
        classifier: Linear,
    },
    Bert {
        model: Box<BertModel>,
        pooler: Linear,
        classifier: Linear,
    },
    Roberta(Box<XLMRobertaForSequenceClassification>),
    /// With absolute positions candle's takes one sequence at a time.
    DebertaV2 {
        model: Box<DebertaV2SeqClassificationModel>,
        one_by_one: bool,
    },
    ModernBert {
        model: Box<ModernBert>,
        pooling: Pooling,
        dense: Linear,
        norm: LayerNorm,
        classifier: Linear,
    },
}

/// Why the weights are not this configuration's, or did not run.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("not a whole safetensors file ({cause}); fetch or convert it again")]
    Broken { cause: Box<Error> },
    #[error("{found} outputs, config.json has {expected} labels; take the files of one model together")]
    Outputs { found: usize, expected: usize },
    #[error("{cause}; the file is not that of this config.json: take the files of one model together")]
    Weights { cause: Box<Error> },
    #[error(transparent)]
    Encoder(Box<LoadError>),
    #[error("the layers did not run: {0}")]
    Layers(Box<Error>),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("a sequence of {found} tokens, expected 1 to {max}")]
    Length { found: usize, max: usize },
    #[error("token {found}; this model's vocabulary ends at {max}")]
    UnknownToken { found: u32, max: usize },
    #[error("it answered with a number that is none; fetch or convert the weights again")]
    NotFinite,
}

impl Network {
    pub fn load(config: &Config, bytes: &[u8]) -> std::result::Result<Self, NetworkError> {
        let root = VarBuilder::from_slice_safetensors(bytes, DType::F32, &Device::Cpu)
            .map_err(|cause| NetworkError::Broken { cause: Box::new(cause) })?;
        check_outputs(&root, config.labels.len())?;
        let weights = |cause| NetworkError::Weights { cause: Box::new(cause) };
        if let Architecture::DistilBert(own) = &config.architecture {
            let choice = Choice { precision: Some(Precision::F32), engine: None };
            let encoder = Encoder::load(own, own.n_layers, bytes, choice)
                .map_err(|cause| NetworkError::Encoder(Box::new(cause)))?;
            let dense = linear(config.width, config.width, root.pp("pre_classifier")).map_err(weights)?;
            let classifier = classifier(&root, config).map_err(weights)?;
            return Ok(Self::DistilBert { encoder: Box::new(encoder), dense, classifier });
        }
        candle(config, &root).map_err(weights)
    }

    /// What computes: for people.
    pub fn engine(&self) -> Engine {
        match self {
            Self::DistilBert { encoder, .. } => encoder.engine(),
            _ => Engine::Candle,
        }
    }

    /// `[sequences, labels]` of sequences of one length.
    pub fn logits(
        &self,
        sequences: &[&[u32]],
        scratch: &mut Scratch,
    ) -> std::result::Result<Vec<Vec<f32>>, NetworkError> {
        let layers = |cause| NetworkError::Layers(Box::new(cause));
        let states = match self {
            Self::DistilBert { encoder, .. } => Some(encoder.hidden(sequences, scratch)?),
            _ => None,
        };
        let logits = match (self, states) {
            (Self::DistilBert { encoder, dense, classifier }, Some(states)) => {
                first_states(&states, encoder.config().dim)
                    .and_then(|first| classifier.forward(&dense.forward(&first)?.relu()?))
            }
            _ => self.run(sequences),
        };
        logits.and_then(|logits| logits.to_vec2()).map_err(layers)
    }

    fn run(&self, sequences: &[&[u32]]) -> Result<Tensor> {
        let shape = (sequences.len(), sequences.first().map_or(0, |ids| ids.len()));
        let ids = Tensor::from_vec(sequences.concat(), shape, &Device::Cpu)?;
        match self {
            Self::DistilBert { .. } => Err(Error::Msg("it has an encoder of its own".to_owned())),
            Self::Bert { model, pooler, classifier } => {
                let states = model.forward(&ids, &ids.zeros_like()?, None)?;
                classifier.forward(&pooler.forward(&first_of(&states)?)?.tanh()?)
            }
            Self::Roberta(model) => model.forward(&ids, &ids.ones_like()?, &ids.zeros_like()?),
            Self::DebertaV2 { model, one_by_one: false } => model.forward(&ids, None, None),
            Self::DebertaV2 { model, one_by_one: true } => {
                let each = (0..sequences.len()).map(|at| model.forward(&ids.narrow(0, at, 1)?, None, None));
                Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
            }
            Self::ModernBert { model, pooling, dense, norm, classifier } => {
                let states = model.forward(&ids, &ids.ones_like()?)?;
                let pooled = match pooling {
                    Pooling::Cls => first_of(&states)?,
                    Pooling::Mean => states.mean(1)?,
                };
                classifier.forward(&norm.forward(&dense.forward(&pooled)?.gelu_erf()?)?)
            }
        }
    }
}

/// Before anything else of the weights: their error would be of shapes.
fn check_outputs(root: &VarBuilder<'_>, expected: usize) -> std::result::Result<(), NetworkError> {
    for name in ["classifier.weight", "classifier.out_proj.weight"] {
        if !root.contains_tensor(name) {
            continue;
        }
        let found = root.get_unchecked(name).and_then(|weight| weight.dim(0));
        let found = found.map_err(|cause| NetworkError::Weights { cause: Box::new(cause) })?;
        if found != expected {
            return Err(NetworkError::Outputs { found, expected });
        }
    }
    Ok(())
}

fn candle(config: &Config, root: &VarBuilder<'_>) -> Result<Network> {
    let width = config.width;
    Ok(match &config.architecture {
        Architecture::DistilBert(_) => return Err(Error::Msg("it has an encoder of its own".to_owned())),
        Architecture::Bert(own) => Network::Bert {
            model: Box::new(BertModel::load(root.pp("bert"), own)?),
            pooler: linear(width, width, root.pp("bert.pooler.dense"))?,
            classifier: classifier(root, config)?,
        },
        Architecture::Roberta(own) => {
            let model = XLMRobertaForSequenceClassification::new(config.labels.len(), own, root.clone())?;
            Network::Roberta(Box::new(model))
        }
        Architecture::DebertaV2(own) => {
            let model = DebertaV2SeqClassificationModel::load(root.pp("deberta"), own, None)?;
            Network::DebertaV2 { model: Box::new(model), one_by_one: own.position_biased_input }
        }
        Architecture::ModernBert { config: own, pooling } => {
            // Candle leaves out a norm that it does not find; only the first layer has none.
            for at in 1..config.layers {
                root.pp("model.layers").pp(at).pp("attn_norm").get(width, "weight")?;
            }
            Network::ModernBert {
                model: Box::new(ModernBert::load(root.clone(), own)?),
                pooling: *pooling,
                dense: linear_no_bias(width, width, root.pp("head.dense"))?,
                norm: layer_norm_no_bias(width, own.layer_norm_eps, root.pp("head.norm"))?,
                classifier: classifier(root, config)?,
            }
        }
    })
}

fn classifier(root: &VarBuilder<'_>, config: &Config) -> Result<Linear> {
    linear(config.width, config.labels.len(), root.pp("classifier"))
}

/// The state of each sequence's first token.
fn first_of(states: &Tensor) -> Result<Tensor> {
    states.narrow(1, 0, 1)?.squeeze(1)?.contiguous()
}

fn first_states(states: &[Vec<f32>], width: usize) -> Result<Tensor> {
    let first: Vec<f32> = states.iter().flat_map(|states| states.iter().take(width).copied()).collect();
    Tensor::from_vec(first, (states.len(), width), &Device::Cpu)
}
