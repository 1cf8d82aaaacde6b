force_delete = true
