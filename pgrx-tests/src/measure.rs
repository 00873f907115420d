use std::process::ExitCode;
pub fn run(_args: crate::args::Args) -> anyhow::Result<ExitCode> {
    let p = crate::prepare::Postgres::from_args(&mut { _args })?;
    let t = p.tree(crate::extension::Flavour::Dev)?;
    println!("{t:?}");
    let s = std::time::Instant::now();
    let mut c = crate::cluster::Cluster::builder(&t, "x").start()?;
    println!("{:?}", s.elapsed());
    println!("{}", c.connect("postgres")?.text("select version()")?);
    println!("{}", c.connect("postgres")?.text("select setting from pg_config() where name=$$SHAREDIR$$")?);
    c.crash()?;
    c.start()?;
    let d = c.standby("sb")?;
    println!("{:?}", s.elapsed());
    d.promote()?;
    let x = c.dump("postgres")?;
    c.restore("y", &x)?;
    c.set("work_mem", "5MB")?;
    c.reload()?;
    println!("{}", c.connect("y")?.text("show work_mem")?);
    Ok(ExitCode::SUCCESS)
}
