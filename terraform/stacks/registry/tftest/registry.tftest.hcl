mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_ecr_repository" {
    defaults = {
      arn            = "arn:aws:ecr:eu-west-1:123456789012:repository/dibbs-ecr-refiner/lambda"
      repository_url = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda"
    }
  }
}

run "default_repository" {
  command = plan

  assert {
    condition = output.repositories == {
      "dibbs-ecr-refiner/lambda" = {
        name = "dibbs-ecr-refiner/lambda"
        arn  = module.repositories["dibbs-ecr-refiner/lambda"].arn
        url  = module.repositories["dibbs-ecr-refiner/lambda"].url
      }
    }
    error_message = "The default must be the one repository of the refiner: ${jsonencode(output.repositories)}"
  }
}

run "several_repositories" {
  command = plan

  variables {
    repositories = ["dibbs-ecr-refiner/lambda", "team-a/refiner"]
  }

  assert {
    condition     = toset(keys(output.repositories)) == toset(["dibbs-ecr-refiner/lambda", "team-a/refiner"])
    error_message = "There must be one entry for each repository."
  }

  assert {
    condition     = alltrue([for name, repository in output.repositories : repository.name == name])
    error_message = "An entry is of another repository."
  }
}
