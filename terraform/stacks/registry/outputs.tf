output "repositories" {
  description = "Repositories by name, each with `name`, `arn` and `url`."
  value = {
    for name, repository in module.repositories : name => {
      name = repository.name
      arn  = repository.arn
      url  = repository.url
    }
  }
}
