//! Which classifier is it? A `config.json` of Hugging Face as candle takes it, and what is refused.
//!
//! What transformers fills in by itself may be missing from the file, and its version 5 writes some
//! of it in other places. What candle would read over silently is refused here.

use std::collections::BTreeMap;

use candle_transformers::models::{bert, debertav2, modernbert, xlm_roberta};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::impact::distilbert;

const LABELS_MAX: usize = 64;
const SUPPORTED: &str =
    "distilbert, bert, roberta, xlm-roberta, deberta-v2 (which version 3 is too) or modernbert";

/// Of which architecture, as its own implementation wants it.
#[derive(Debug, Clone)]
pub enum Architecture {
    DistilBert(distilbert::Config),
    Bert(bert::Config),
    /// XLM-RoBERTa is one with another vocabulary.
    Roberta(xlm_roberta::Config),
    DebertaV2(Box<debertav2::Config>),
    ModernBert {
        config: Box<modernbert::Config>,
        pooling: Pooling,
    },
}

/// What of the last hidden states the head of a ModernBERT reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    Cls,
    Mean,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub architecture: Architecture,
    /// As the file says it, for people.
    pub model_type: String,
    /// In the order of the outputs.
    pub labels: Vec<String>,
    pub vocabulary: usize,
    pub width: usize,
    pub layers: usize,
    /// Most tokens at once.
    pub positions: usize,
    /// What the model was made from, if the file says so.
    pub name: Option<String>,
}

/// Why a `config.json` is not one of a classifier that can be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "not the JSON of a model's configuration: {cause}; take the config.json that came with the model"
    )]
    Unreadable { cause: String },
    #[error("a model of type `{found}`, expected {SUPPORTED}; take a classifier of one of these")]
    ModelType { found: String },
    #[error(
        "a model made for `{found}`, expected one for sequence classification; take a classifier, or \
         fine-tune this one to be one"
    )]
    NotAClassifier { found: String },
    #[error("`{field}` is {found}, expected {expected}; take a classifier without it")]
    Unsupported { field: &'static str, found: String, expected: &'static str },
    #[error("`{field}` is {found}, expected 1 to {max}")]
    OutOfRange { field: &'static str, found: String, max: usize },
    #[error("{heads} heads do not divide a width of {width}")]
    Heads { width: usize, heads: usize },
    #[error("`id2label` has {found}, expected the labels of 2 to {LABELS_MAX} outputs, counted from 0")]
    Labels { found: String },
    #[error(transparent)]
    DistilBert(#[from] distilbert::ConfigError),
}

type Fields = Map<String, Value>;
type Result<T> = std::result::Result<T, ConfigError>;

impl Config {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut fields: Fields = serde_json::from_slice(bytes).map_err(unreadable)?;
        // What is null is as good as missing.
        fields.retain(|_, value| !value.is_null());
        let model_type = text(&fields, "model_type").unwrap_or("(not said)").to_owned();
        let of = ModelType::of(&model_type)?;
        check_purpose(&fields)?;
        let labels = labels(&fields)?;
        let name = text(&fields, "_name_or_path").map(str::to_owned);
        if of == ModelType::DistilBert {
            let config = distilbert::Config::parse(bytes)?;
            let (vocabulary, width, layers) = (config.vocab_size, config.dim, config.n_layers);
            let positions = config.max_position_embeddings;
            let architecture = Architecture::DistilBert(config);
            return Ok(Self { architecture, model_type, labels, vocabulary, width, layers, positions, name });
        }
        let [vocabulary, width, layers, heads] = [
            ("vocab_size", 1_000_000),
            ("hidden_size", 4096),
            ("num_hidden_layers", 48),
            ("num_attention_heads", 128),
        ]
        .map(|(field, max)| dimension(&fields, field, max));
        let (vocabulary, width, layers, heads) = (vocabulary?, width?, layers?, heads?);
        dimension(&fields, "intermediate_size", 65_536)?;
        let mut positions = dimension(&fields, "max_position_embeddings", 32_768)?;
        if width.checked_rem(heads) != Some(0) {
            return Err(ConfigError::Heads { width, heads });
        }
        let architecture = match of {
            ModelType::DistilBert | ModelType::Bert => Architecture::Bert(bert(&mut fields)?),
            ModelType::Roberta => {
                let config = roberta(&mut fields)?;
                // The first ones are padding's.
                positions = positions.saturating_sub(config.pad_token_id as usize + 1);
                Architecture::Roberta(config)
            }
            ModelType::DebertaV2 => Architecture::DebertaV2(Box::new(deberta_v2(&mut fields, &labels)?)),
            ModelType::ModernBert => {
                let (config, pooling) = modern_bert(&mut fields, layers)?;
                Architecture::ModernBert { config: Box::new(config), pooling }
            }
        };
        Ok(Self { architecture, model_type, labels, vocabulary, width, layers, positions, name })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ModelType {
    DistilBert,
    Bert,
    Roberta,
    DebertaV2,
    ModernBert,
}

impl ModelType {
    fn of(model_type: &str) -> Result<Self> {
        match model_type {
            "distilbert" => Ok(Self::DistilBert),
            "bert" => Ok(Self::Bert),
            "roberta" | "xlm-roberta" => Ok(Self::Roberta),
            "deberta-v2" => Ok(Self::DebertaV2),
            "modernbert" => Ok(Self::ModernBert),
            found => Err(ConfigError::ModelType { found: found.to_owned() }),
        }
    }
}

/// Whether this is the configuration of somebody's classifier; of a broken one nobody knows.
pub fn is_classifier(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Fields>(bytes).is_ok_and(|fields| made_for(&fields).is_some_and(classifies))
}

fn made_for(fields: &Fields) -> Option<&str> {
    fields.get("architectures")?.as_array()?.first()?.as_str()
}

fn classifies(architecture: &str) -> bool {
    architecture.ends_with("ForSequenceClassification")
}

fn check_purpose(fields: &Fields) -> Result<()> {
    let found = made_for(fields).unwrap_or("(not said)");
    if !classifies(found) {
        return Err(ConfigError::NotAClassifier { found: found.to_owned() });
    }
    // Others make of each output a probability of its own, or no probability at all.
    only(fields, "problem_type", &json!("single_label_classification"), "single_label_classification")?;
    only(fields, "is_decoder", &json!(false), "false")
}

/// `id2label`; without it, what transformers calls them.
fn labels(fields: &Fields) -> Result<Vec<String>> {
    let labels: Vec<String> = match fields.get("id2label") {
        None => {
            let count = fields.get("num_labels").map_or(Some(2), Value::as_u64);
            let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
            (0..count.min(LABELS_MAX + 1)).map(|at| format!("LABEL_{at}")).collect()
        }
        Some(map) => {
            let wrong = || ConfigError::Labels { found: short(map) };
            let by_output: BTreeMap<usize, String> = map
                .as_object()
                .and_then(|map| {
                    map.iter()
                        .map(|(at, label)| Some((at.parse().ok()?, label.as_str()?.to_owned())))
                        .collect()
                })
                .ok_or_else(wrong)?;
            if by_output.keys().copied().ne(0..by_output.len()) {
                return Err(wrong());
            }
            by_output.into_values().collect()
        }
    };
    let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
    if distinct.len() != labels.len() || !(2..=LABELS_MAX).contains(&labels.len()) {
        return Err(ConfigError::Labels {
            found: format!("{} labels: {}", labels.len(), short(&json!(labels))),
        });
    }
    Ok(labels)
}

fn bert(fields: &mut Fields) -> Result<bert::Config> {
    common(fields, 1e-12, 2, 0)?;
    // Without it, weights under another name are not looked for.
    fields.remove("model_type");
    parsed(fields)
}

fn roberta(fields: &mut Fields) -> Result<xlm_roberta::Config> {
    common(fields, 1e-12, 2, 1)?;
    parsed(fields)
}

fn deberta_v2(fields: &mut Fields, labels: &[String]) -> Result<debertav2::Config> {
    common(fields, 1e-7, 0, 0)?;
    // Candle has its weights and not its arithmetic.
    only(
        fields,
        "conv_kernel_size",
        &json!(0),
        "none: the convolution of DeBERTa-v2-xlarge is not to be had",
    )?;
    let width = fields.get("hidden_size").cloned().unwrap_or_default();
    for (field, value) in [
        ("relative_attention", json!(false)),
        ("max_relative_positions", json!(-1)),
        ("position_biased_input", json!(true)),
        ("pos_att_type", json!([])),
        ("pooler_dropout", json!(0)),
        ("pooler_hidden_act", json!("gelu")),
        ("pooler_hidden_size", width.clone()),
    ] {
        fields.entry(field).or_insert(value);
    }
    only(fields, "pooler_hidden_size", &width, "the width of the model")?;
    activation(fields, "pooler_hidden_act")?;
    if let Some(norm) = text(fields, "norm_rel_ebd").map(str::to_lowercase) {
        fields.insert("norm_rel_ebd".to_owned(), json!(norm));
    }
    let by_output: Fields =
        labels.iter().enumerate().map(|(at, label)| (at.to_string(), json!(label))).collect();
    fields.insert("id2label".to_owned(), by_output.into());
    fields.remove("label2id");
    parsed(fields)
}

fn modern_bert(fields: &mut Fields, layers: usize) -> Result<(modernbert::Config, Pooling)> {
    for field in ["attention_bias", "mlp_bias", "norm_bias", "classifier_bias"] {
        only(fields, field, &json!(false), "false")?;
    }
    for field in ["hidden_activation", "classifier_activation"] {
        only(fields, field, &json!("gelu"), "gelu")?;
    }
    // Version 5 of transformers writes these in other places.
    let theta = |kind: &str| fields.get("rope_parameters")?.get(kind)?.get("rope_theta").cloned();
    let (global, local) = (theta("full_attention"), theta("sliding_attention"));
    let epsilon = fields.get("norm_eps").cloned();
    for (field, value) in [
        ("global_rope_theta", global.unwrap_or(json!(160_000.0))),
        ("local_rope_theta", local.unwrap_or(json!(10_000.0))),
        ("layer_norm_eps", epsilon.unwrap_or(json!(1e-5))),
        ("global_attn_every_n_layers", json!(3)),
        ("local_attention", json!(128)),
        ("pad_token_id", json!(50_283)),
    ] {
        fields.entry(field).or_insert(value);
    }
    let every = dimension(fields, "global_attn_every_n_layers", layers.max(48))?;
    dimension(fields, "local_attention", 65_536)?;
    if let Some(found) = fields.get("layer_types") {
        let kind = |at: usize| if at.is_multiple_of(every) { "full_attention" } else { "sliding_attention" };
        if *found != (0..layers).map(kind).collect::<Value>() {
            let (field, expected) = ("layer_types", "full attention in every `global_attn_every_n_layers`th");
            return Err(ConfigError::Unsupported { field, found: short(found), expected });
        }
    }
    // Its own head's, which is not candle's here.
    let pooling = fields.remove("classifier_pooling").unwrap_or(json!("cls"));
    let pooling = Pooling::deserialize(&pooling).map_err(|_| ConfigError::Unsupported {
        field: "classifier_pooling",
        found: short(&pooling),
        expected: "cls or mean",
    })?;
    Ok((parsed(fields)?, pooling))
}

/// What BERT, RoBERTa and DeBERTa have in common, with the defaults of transformers.
fn common(fields: &mut Fields, epsilon: f64, token_types: u64, padding: u64) -> Result<()> {
    only(fields, "position_embedding_type", &json!("absolute"), "absolute")?;
    for (field, value) in [
        ("hidden_act", json!("gelu")),
        ("hidden_dropout_prob", json!(0.1)),
        ("attention_probs_dropout_prob", json!(0.1)),
        ("initializer_range", json!(0.02)),
        ("layer_norm_eps", json!(epsilon)),
        ("type_vocab_size", json!(token_types)),
        ("pad_token_id", json!(padding)),
        ("position_embedding_type", json!("absolute")),
    ] {
        fields.entry(field).or_insert(value);
    }
    activation(fields, "hidden_act")
}

/// Candle has the approximations of GELU under other names in each model.
fn activation(fields: &Fields, field: &'static str) -> Result<()> {
    match text(fields, field) {
        Some("gelu" | "relu") => Ok(()),
        found => Err(ConfigError::Unsupported {
            field,
            found: found.unwrap_or("not a name").to_owned(),
            expected: "gelu or relu",
        }),
    }
}

/// A field that may be missing, and else has one value only.
fn only(fields: &Fields, field: &'static str, value: &Value, expected: &'static str) -> Result<()> {
    match fields.get(field) {
        Some(found) if found != value => {
            Err(ConfigError::Unsupported { field, found: short(found), expected })
        }
        _ => Ok(()),
    }
}

fn dimension(fields: &Fields, field: &'static str, max: usize) -> Result<usize> {
    let found = fields.get(field).unwrap_or(&Value::Null);
    match found.as_u64().and_then(|found| usize::try_from(found).ok()) {
        Some(value) if (1..=max).contains(&value) => Ok(value),
        _ => Err(ConfigError::OutOfRange { field, found: short(found), max }),
    }
}

fn parsed<T: DeserializeOwned>(fields: &Fields) -> Result<T> {
    T::deserialize(Value::Object(fields.clone())).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> ConfigError {
    ConfigError::Unreadable { cause: error.to_string() }
}

fn text<'a>(fields: &'a Fields, field: &str) -> Option<&'a str> {
    fields.get(field)?.as_str()
}

/// A value of a file in a message, whatever its length.
fn short(value: &Value) -> String {
    const SHOWN_MAX: usize = 80;
    let text = if value.is_null() { "missing".to_owned() } else { value.to_string() };
    if text.chars().count() <= SHOWN_MAX {
        return text;
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}
