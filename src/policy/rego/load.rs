//! Which rules does a policy consist of, and can all of it run?

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const ROOT: &str = "data.agentbus";
const MODULES: &str = "data.agentbus.modules.";

/// Files by package, `data.` in front.
type Packages<'a> = BTreeMap<String, Vec<(&'a str, &'a str)>>;

pub(super) struct Loaded {
    pub(super) rules: Vec<ModuleRules>,
    pub(super) prototype: Prototype,
    pub(super) reads: Reads,
    pub(super) log_policy: Option<Arc<LogPolicy>>,
}

pub(super) fn load(sources: &PolicySources) -> Result<Loaded, LoadError> {
    let shipped = if sources.shipped { SHIPPED } else { &[] };
    let shipped_packages = packages(shipped.iter().copied())?;
    let own: Vec<&Module> = sources.modules.iter().filter(|module| !is_aggregation(module)).collect();
    let mut own_packages = packages(own.iter().map(|module| (module.file.as_str(), module.text.as_str())))?;
    refuse_reserved(&own_packages, &shipped_packages)?;
    for module in &own {
        if let Some((name, line)) = differs::absent(&module.text) {
            return Err(LoadError::NoBuiltin { file: module.file.clone(), line, name });
        }
    }
    let log_policy = log_policy(&shipped_packages, &own_packages, sources.data.as_deref())?;
    // It decides nothing, so that decisions are no dearer for it.
    own_packages.remove(LogPolicy::PACKAGE);

    let compiled = Compiled::new(&shipped_packages)?;
    let interpreted = interpreter(&shipped_packages, &own_packages, sources.data.as_deref())?;

    let mut rules = compiled.rules;
    if let Some(engine) = &interpreted {
        for (package, files) in &own_packages {
            if let Some(name) = package.strip_prefix(MODULES) {
                rules.push(interpreted_rules(engine, package, name, files)?);
            }
        }
    }
    if rules.is_empty() {
        return Err(LoadError::NoModules);
    }
    let texts = shipped_packages.values().chain(own_packages.values()).flatten();
    let reads = texts.map(|(_, text)| reads::scan(text)).fold(Reads::NOTHING, Reads::and);
    Ok(Loaded { rules, prototype: Prototype { compiled: compiled.program, interpreted }, reads, log_policy })
}

fn log_policy(
    shipped: &Packages<'_>,
    own: &Packages<'_>,
    data: Option<&str>,
) -> Result<Option<Arc<LogPolicy>>, LoadError> {
    let Some(files) = own.get(LogPolicy::PACKAGE) else { return Ok(None) };
    let Some(engine) = interpreter(shipped, own, data)? else { return Ok(None) };
    let defines = |rule: &str| -> Result<bool, LoadError> {
        for (file, _) in files {
            if engine.has_declared_rule_rooted_at(file, rule).map_err(compile_error)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (masks, drops) = (defines(LogPolicy::MASK)?, defines(LogPolicy::DROP)?);
    Ok(Some(Arc::new(LogPolicy::new(engine, masks, drops))))
}

/// A copy of the shipped folder brings along how OPA joins modules. Unchanged it says what is done
/// anyway; changed it would be in vain, so it is refused as any other use of the bus's packages.
pub(in crate::policy) fn is_aggregation(module: &Module) -> bool {
    AGGREGATION.iter().any(|(_, text)| *text == module.text)
}

fn packages<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Packages<'a>, LoadError> {
    let mut packages = Packages::new();
    for (file, text) in files {
        let package = Engine::new()
            .add_policy(file.to_owned(), text.to_owned())
            .map_err(|cause| LoadError::Parse { cause: told(cause) })?;
        packages.entry(package).or_default().push((file, text));
    }
    Ok(packages)
}

/// Of the modules that must all allow.
pub(in crate::policy) fn module_names(sources: &PolicySources) -> Result<BTreeSet<String>, LoadError> {
    let shipped = if sources.shipped { SHIPPED } else { &[] };
    let own = sources.modules.iter().map(|module| (module.file.as_str(), module.text.as_str()));
    let packages = packages(shipped.iter().copied().chain(own))?;
    Ok(packages.keys().filter_map(|package| package.strip_prefix(MODULES)).map(str::to_owned).collect())
}

/// The package of one file, `data.` in front.
pub(in crate::policy) fn package(module: &Module) -> Result<String, LoadError> {
    let added = Engine::new().add_policy(module.file.clone(), module.text.clone());
    added.map_err(|cause| LoadError::Parse { cause: told(cause) })
}

/// No file of the operator's may add to a package of the bus: a rule added to a shipped module could
/// allow what it denies.
fn refuse_reserved(own: &Packages<'_>, shipped: &Packages<'_>) -> Result<(), LoadError> {
    for (package, files) in own {
        let name = package.strip_prefix(MODULES);
        let new_module = name.is_some_and(|name| is_name(name) && !shipped.contains_key(package));
        // `data.agentbus_x` and `data["agentbus"]` too: close calls are not worth a mistake.
        let foreign = !package.contains("agentbus") && package.starts_with("data.");
        if !new_module && !foreign {
            let file = files.first().map_or("", |(file, _)| file).to_owned();
            return Err(LoadError::ReservedPackage { file, package: package.replacen("data.", "", 1) });
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct Compiled {
    rules: Vec<ModuleRules>,
    program: Option<(CompiledPolicy, Arc<Program>)>,
}

impl Compiled {
    fn new(shipped: &Packages<'_>) -> Result<Self, LoadError> {
        let mut engine = Engine::new();
        let mut rules = Vec::new();
        let mut paths: Vec<String> = Vec::new();
        for (package, files) in shipped {
            add(&mut engine, files)?;
            let name = package.strip_prefix(MODULES).unwrap_or(package);
            rules.push(module_rules(&engine, package, name, files, |path| {
                paths.push(path.clone());
                Rule::Compiled { path, entry: paths.len() - 1 }
            })?);
        }
        let Some(first) = paths.first() else {
            return Ok(Self { rules, program: None });
        };
        let policy = engine.compile_with_entrypoint(&first.as_str().into()).map_err(compile_error)?;
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let program = Compiler::compile_from_policy(&policy, &paths).map_err(compile_error)?;
        Ok(Self { rules, program: Some((policy, program)) })
    }
}

/// With the shipped modules beside the operator's, which may refer to them.
fn interpreter(
    shipped: &Packages<'_>,
    own: &Packages<'_>,
    data: Option<&str>,
) -> Result<Option<Engine>, LoadError> {
    if own.is_empty() {
        data.map(parse_data).transpose()?;
        return Ok(None);
    }
    interpreting(shipped, own, data).map(Some)
}

fn interpreting(shipped: &Packages<'_>, own: &Packages<'_>, data: Option<&str>) -> Result<Engine, LoadError> {
    let data = data.map(parse_data).transpose()?;
    let mut engine = Engine::new();
    // As OPA's `strict-builtin-errors`: a failing builtin is an error, not an undefined that a `not`
    // could turn into an allow.
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(timer());
    for files in shipped.values().chain(own.values()) {
        add(&mut engine, files)?;
    }
    if let Some(data) = data {
        engine.add_data(data).map_err(|cause| LoadError::Data { cause: cause.to_string() })?;
    }
    Ok(engine)
}

/// All modules in the interpreter, those that ship too.
pub(super) fn traced(sources: &PolicySources) -> Result<(Engine, Vec<ModuleRules>), LoadError> {
    let shipped = packages(if sources.shipped { SHIPPED } else { &[] }.iter().copied())?;
    let own = sources.modules.iter().filter(|module| !is_aggregation(module));
    let mut own = packages(own.map(|module| (module.file.as_str(), module.text.as_str())))?;
    own.remove(LogPolicy::PACKAGE);
    let engine = interpreting(&shipped, &own, sources.data.as_deref())?;
    let modules = shipped.iter().chain(&own).filter_map(|(package, files)| {
        Some(interpreted_rules(&engine, package, package.strip_prefix(MODULES)?, files))
    });
    let rules = modules.collect::<Result<_, _>>()?;
    Ok((engine, rules))
}

pub(super) fn parse_data(text: &str) -> Result<Value, LoadError> {
    let refused = |cause: String| LoadError::Data { cause };
    let data = Value::from_json_str(text).map_err(|cause| refused(cause.to_string()))?;
    let object = data.as_object().map_err(|_| refused("must be a JSON object".to_owned()))?;
    if object.contains_key(&Value::from("agentbus")) {
        return Err(refused(format!("the key agentbus belongs to the bus ({ROOT})")));
    }
    Ok(data)
}

pub(super) fn add(engine: &mut Engine, files: &[(&str, &str)]) -> Result<(), LoadError> {
    for (file, text) in files {
        engine
            .add_policy((*file).to_owned(), (*text).to_owned())
            .map_err(|cause| LoadError::Parse { cause: told(cause) })?;
    }
    Ok(())
}

fn interpreted_rules(
    engine: &Engine,
    package: &str,
    name: &str,
    files: &[(&str, &str)],
) -> Result<ModuleRules, LoadError> {
    module_rules(engine, package, name, files, |path| Rule::Interpreted { path })
}

fn module_rules(
    engine: &Engine,
    package: &str,
    name: &str,
    files: &[(&str, &str)],
    mut rule: impl FnMut(String) -> Rule,
) -> Result<ModuleRules, LoadError> {
    let mut defined = |word: &str| -> Result<Option<Rule>, LoadError> {
        for (file, _) in files {
            if engine.has_declared_rule_rooted_at(file, word).map_err(compile_error)? {
                return Ok(Some(rule(format!("{package}.{word}"))));
            }
        }
        Ok(None)
    };
    let allow = defined("allow")?.ok_or_else(|| LoadError::NoAllow { module: name.to_owned() })?;
    Ok(ModuleRules {
        name: name.to_owned(),
        allow,
        reasons: defined("reasons")?,
        obligations: defined("obligations")?,
    })
}

fn compile_error(cause: impl ToString) -> LoadError {
    LoadError::Compile { cause: told(cause) }
}

/// What regorus says, on one line: file, line and column, and what is wrong there. It says so over five, with the
/// line itself.
pub(super) fn told(cause: impl ToString) -> String {
    let cause = cause.to_string();
    let mut lines = cause.trim().lines();
    let place = lines.next().and_then(|line| line.strip_prefix("--> "));
    match (place, lines.last()) {
        (Some(place), Some(wrong)) => format!("{place}: {}", wrong.strip_prefix("error: ").unwrap_or(wrong)),
        _ => cause.trim().replace('\n', " "),
    }
}
